"""The configs that come with engramcka."""
