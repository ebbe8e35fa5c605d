"""Where the photos come from: one file per way of storing them."""
