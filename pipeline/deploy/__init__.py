"""Pack models and code for the device."""
