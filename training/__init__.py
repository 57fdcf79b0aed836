"""Training beside train.py: devices, states, optimizers, reports and the teacher."""
