"""Cameras: one child process each, a ring of shared memory to the daemon, and the sources that deliver pictures."""

import os

# OpenCV reads this once, when it is loaded, and accepts 2^30 pixels otherwise. So it stands before every import of cv2
# below this package; camera processes inherit it.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "200000000")
