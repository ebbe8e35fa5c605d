"""What runs on the device: look at a photo, run the stages, route. Needs numpy, Pillow and onnxruntime only.

This package imports nothing of the rest of the project; the rest uses it to look at a photo, and a bundle carries a
copy of it as it stands. So what is measured is what runs on the device.
"""
