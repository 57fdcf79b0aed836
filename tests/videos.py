"""Short videos for tests, which are skipped where PyAV is missing."""

import numpy as np
import pytest


def write_video(path, frames, rate=10, turned=0, **options):
    """Write `frames` (h, w, 3) as H.264, to be shown turned by so many degrees. options: of x264."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if turned:
            stream.set_display_rotation(turned)
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
