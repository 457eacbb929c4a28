"""The Jupyter face: magics, display, status files, the provisioner, the server extension."""
