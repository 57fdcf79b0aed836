"""What upscaling photographs and videos stands on; nothing in here imports Keras before it is needed."""
