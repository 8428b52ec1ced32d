"""Finding images by their embeddings: indexes of images, exact search, and near duplicates."""
