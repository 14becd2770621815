"""Parts of the screens, and the pure functions that draw them."""
