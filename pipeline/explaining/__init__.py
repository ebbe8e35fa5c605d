"""Where a network looks, whether its maps can be believed, and what its channels want to see."""
