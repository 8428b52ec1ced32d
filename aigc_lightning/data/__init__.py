"""One DataModule a file, over one decoder and one order of samples."""
