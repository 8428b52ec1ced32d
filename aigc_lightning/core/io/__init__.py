"""Files, pictures, addresses and text: what goes in and out, checked on the way in and escaped on the way out."""
