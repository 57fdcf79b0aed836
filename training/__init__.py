"""What only train.py needs: devices, states, optimizers, reports and the teacher."""
