"""What upscale.py and demo.py need for photographs and videos; nothing here imports Keras before it is needed."""
