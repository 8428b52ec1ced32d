"""Input and output of files, pictures, URLs and text: checked on the way in and escaped on the way out."""
