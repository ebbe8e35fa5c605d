"""The code that runs on the device: decoding, the stages, routing. Needs numpy, Pillow and onnxruntime only.

This package imports nothing from the rest of the project. The rest decodes and routes by it, and a bundle carries an
unchanged copy of it, so that what is measured is what runs on the device.
"""
