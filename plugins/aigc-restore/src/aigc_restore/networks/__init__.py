"""Networks that enlarge images, and those that judge the results."""
