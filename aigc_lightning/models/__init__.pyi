from .autoencoder import Autoencoder as Autoencoder
from .cnn import CNN as CNN
from .cyclegan import CycleGAN as CycleGAN
from .dcgan import DCGAN as DCGAN
from .metric import Metric as Metric
from .pix2pix import Pix2Pix as Pix2Pix
from .vae import VAE as VAE
