"""Sampling from a trained model and editing pictures, as files and as tensors.

python examples/sample_and_edit.py
"""

from aigc_lightning import edit, fit, load, sample
from aigc_lightning.models import VAE


def main(steps: int = 800) -> None:
    """Train a variational autoencoder of digits, draw with it, and restore pictures with it."""
    run = fit("vae_digits", trainer={"max_steps": steps}, run="vae")

    # Files: one picture per seed, each with a record of how it was made, and a grid of them.
    pictures = sample(run, range(16), out="drawn")
    print(len(pictures), "pictures:", pictures.paths[0], "to", pictures.paths[-1], "and", pictures.overview)

    # Tensors: (B, C, H, W) in [-1, 1]. A seed gives the same image whatever else is asked for.
    loaded = load(run)
    images = loaded.sample([3, 7])
    assert images[1].equal(loaded.sample([7])[0])

    # What else a model can do depends on the model: this one encodes and decodes.
    model = loaded.model
    assert isinstance(model, VAE)
    between = model.decode(model.latents([3, 7]).mean(0, keepdim=True))
    print("Between two digits:", tuple(between.shape))

    # Editing: plain operations, a model, or both. The results lie beside before_after.png and compare.html.
    turned = edit(None, "drawn/000003.png", ops="rotate=90,brightness=1.2", out="turned")
    denoiser = fit("autoencoder_photos", trainer={"max_steps": steps // 8}, run="denoiser")
    clean = edit(denoiser, *turned.paths, out="clean")
    print(clean.paths)


if __name__ == "__main__":
    main()
