"""What fills the screen: one view a kind of result, and the dialogs."""
