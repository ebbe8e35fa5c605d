"""The folder that goes to the device."""
