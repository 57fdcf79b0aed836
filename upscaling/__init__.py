"""Upscaling photographs and videos of any kind and size; nothing here imports Keras before it is needed."""
