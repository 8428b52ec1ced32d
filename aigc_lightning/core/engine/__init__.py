"""What adversarial training is made of: a player's update, averages, several processes, gradients that are not finite."""
