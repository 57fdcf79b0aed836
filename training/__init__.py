"""Parts of the training: devices, states, optimizers, reports and the teacher."""
