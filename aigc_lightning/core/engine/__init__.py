"""Parts of adversarial training: a player's update, averages, several processes, gradients that are not finite."""
