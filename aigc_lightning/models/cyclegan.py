"""CycleGAN: unpaired translation between two image domains.

Paper: Zhu, Park, Isola, Efros, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV
2017, https://arxiv.org/abs/1703.10593
Departures from the paper: the discriminators are updated before the generators, on the same images; inference uses the
averaged weights; the identity loss is on by default, as in the authors' code.
Shapes: B batch, C channels, H and W height and width in pixels. Images lie in [-1, 1].
"""

from collections.abc import Iterable
from types import NoneType
from typing import Any, Literal, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.optim import Adam

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.batch import UnpairedBatch
from aigc_lightning.core.engine.image_pool import ImagePool, joined
from aigc_lightning.core.engine.schedules import constant_linear
from aigc_lightning.core.export_graphs import ExportGraph, derived_graphs
from aigc_lightning.core.image_model import initialize_normal
from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.records import checked_state
from aigc_lightning.core.run.seed import run_seed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.losses import least_squares
from aigc_lightning.metrics.pairs import mae, psnr, ssim
from aigc_lightning.networks.patchgan import PatchGAN, PatchGANs, check_patches
from aigc_lightning.networks.resnet_generator import ResNetGenerator

CycleGANNorm = Literal["plain_instance", "instance", "group", "none"]
Direction = Literal["AtoB", "BtoA"]
Kind = Literal["A", "B"]
Images = dict[Kind, Tensor]
#: Key of the pools in a checkpoint.
_POOLS_KEY = "image_pools"
_SMALL = 128  # pixels up to which the paper has 6 residual blocks, and 9 beyond
_SCORES = {"l1": mae, "psnr": psnr, "ssim": ssim}


class CycleGAN(AdversarialModel):
    """Translates between two image domains A and B, trained without pairs.

    Held-out images give `val/cycle`, the mean absolute error of values in [0, 1] after a full cycle; if they are pairs,
    which training never uses, also `val/l1_AtoB`, `val/psnr_AtoB`, `val/ssim_AtoB` and those of the other direction.
    None of these identifies the best checkpoint, so none is marked as best.

    Args:
        spec: format of the images; declared by the data.
        width: channels of the generators' first layer.
        num_blocks: residual blocks of the generators; None for 6 up to 128 pixels and 9 beyond.
        discriminator_width: channels of the discriminators' first layer.
        discriminator_layers: 1 to judge patches of 16x16 pixels, 2 for 34x34, 3 for 70x70, 4 for 142x142.
        norm: of all networks: "plain_instance" (without scale and shift, the paper's), "instance", "group" or "none".
            Per-channel norms lose the colours of large flat areas, as in drawings.
        cycle_weight: weight of the cycle loss, the mean absolute difference between an image and its translation to the
            other domain and back.
        identity_weight: weight of the identity loss, the mean absolute difference between an image of the target domain
            and its translation; 0 for none. It preserves colours; where the paper uses it, it is half of
            `cycle_weight`.
        pool_size: number of earlier translations from which each discriminator is shown some again; 0 for none.
        held_out_pairs: whether held-out images of A and B with the same index show the same scene.
        lr: Adam learning rate of all networks.
        beta1: Adam's first decay rate.
        schedule_steps: batches until the learning rate is 0, usually `trainer.max_steps`: it is constant for the
            first half and then falls linearly; None keeps it.

    Raises:
        UserError: the data is not unpaired; images are too small for the discriminators' patches; an argument is out of
            range.
    """

    # The generators are updated together, since each one's loss goes through the other.
    players = ("discriminator_pair", "generator_pair")
    averaged_networks = ("generator_pair",)
    size_multiple = 4  # heights and widths that the generators halve evenly are multiples of this

    def __init__(
        self,
        spec: ImageSpec,
        width: int = 64,
        num_blocks: int | None = None,
        discriminator_width: int = 64,
        discriminator_layers: int = 3,
        norm: CycleGANNorm = "plain_instance",
        cycle_weight: float = 10.0,
        identity_weight: float = 5.0,
        pool_size: int = 50,
        held_out_pairs: bool = False,
        lr: float = 2e-4,
        beta1: float = 0.5,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.task != "unpaired":
            raise UserError(
                f"CycleGAN needs unpaired images of two domains, but the data is for {spec.task} ({spec}).",
                "Choose unpaired data, such as `--data shapes --data.task unpaired` or `--data unpaired_images`.",
            )
        check_patches(spec, discriminator_layers)
        if num_blocks is None:
            num_blocks = 6 if max(spec.height, spec.width) <= _SMALL else 9
        check_numbers(width=width, discriminator_width=discriminator_width, lr=lr)
        check_numbers(most=MOST_LAYERS, num_blocks=num_blocks)
        check_numbers(schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, cycle_weight=cycle_weight, identity_weight=identity_weight, pool_size=pool_size)
        if not 0 <= beta1 < 1:
            raise UserError(f"model.beta1 is {beta1}.", "Give a number of at least 0 and below 1.")
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.held_out_pairs = held_out_pairs
        self.lr, self.beta1, self.schedule_steps = lr, beta1, schedule_steps
        self.generator_pair = nn.ModuleDict(
            {direction: ResNetGenerator(spec.channels, width, num_blocks, norm) for direction in ("AtoB", "BtoA")}
        )
        self.discriminator_pair = PatchGANs(
            {kind: PatchGAN(spec.channels, discriminator_width, discriminator_layers, norm) for kind in ("A", "B")}
        )
        initialize_normal(self)
        self.pools: dict[Kind, ImagePool] = {"A": ImagePool(pool_size), "B": ImagePool(pool_size)}
        self._shown: dict[Kind, list[Tensor]] = {}  # translations of this step, for the pools

    # ---- inference

    def edit(self, images: Tensor, direction: Direction = "AtoB") -> Tensor:
        """Return translations (B, C, H, W) in [-1, 1] of images (B, C, H, W), by the averaged generator.

        Args:
            images: in [-1, 1], of any size.
            direction: "AtoB" or "BtoA".

        Raises:
            UserError: another direction.
        """
        if direction not in self.generator_pair:
            raise UserError(f"The direction is {direction!r}.", "Give AtoB or BtoA.")
        with self.inference():
            generators = cast(nn.ModuleDict, self.averaged("generator_pair"))
            images = images.to(self.device, cast(torch.dtype, self.dtype))
            translated: Tensor = generators[direction](images).clamp(-1, 1)
        return translated

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return what `aigc export` writes: both directions, for images of any size as in `edit`."""
        return derived_graphs(self, multiple=1)

    def comparison(self, batch: UnpairedBatch) -> dict[str, Tensor]:
        """Return the columns of grids: images of both domains beside their translations, each (B, C, H, W)."""
        a, b = batch["image_a"], batch["image_b"]
        return {"A": a, "A to B": self.edit(a, "AtoB"), "B": b, "B to A": self.edit(b, "BtoA")}

    # ---- training

    def discriminator_loss(self, kind: Kind, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of one domain's D on real and fake images (B, C, H, W); no gradient reaches G."""
        fake = fake.detach()
        if self.augmentation is None:  # D treats each image independently, so real and fake images can share one pass
            real_logits, fake_logits = self.discriminator_pair(torch.cat([real, fake]), kind).chunk(2)
        else:
            real_logits, fake_logits = self.discriminator_pair(real, kind), self.discriminator_pair(fake, kind)
        self.observe_real(real_logits)
        return least_squares.discriminator(real_logits, fake_logits)

    def discriminators_loss(self, real: Images, fakes: Images) -> Tensor:
        """Return the loss of both D, which see earlier fakes from the pools instead of some of these."""
        window = self._window
        losses = []
        for kind, pool in self.pools.items():
            self._shown[kind].append(fakes[kind].detach())
            mixed = pool.mixed(self._shown[kind][-1], window.start, window.total, *self._pool_key(kind))
            losses.append(self.discriminator_loss(kind, real[kind], mixed))
        return losses[0] + losses[1]

    def generators_loss(self, real: Images, fakes: Images, same: Images) -> Tensor:
        """Return the loss of both G, equation 3 and section 5.2.

        Args:
            real: images (B, C, H, W) by domain.
            fakes: translations by target domain.
            same: images translated to their own domain, for the identity loss; empty without it.
        """
        back: Images = {"A": self.generator_pair["BtoA"](fakes["B"]), "B": self.generator_pair["AtoB"](fakes["A"])}
        # Without the factor 1/2 of D's loss.
        adversarial = _total(2 * least_squares.generator(self.discriminator_pair(fakes[k], k)) for k in fakes)
        cycle = _total(l1_loss(back[kind], real[kind]) for kind in real)
        self.record("adversarial", adversarial)
        self.record("cycle", cycle)
        loss = adversarial + self.cycle_weight * cycle
        if same:
            identity = _total(l1_loss(same[kind], real[kind]) for kind in same)
            self.record("identity", identity)
            loss = loss + self.identity_weight * identity
        return loss

    def adversarial_step(self, batch: UnpairedBatch) -> None:
        """Update both D, then both G, on shared translations."""
        a, b = batch["image_a"], batch["image_b"]
        to_a, to_b = self.generator_pair["BtoA"], self.generator_pair["AtoB"]
        real: Images = {"A": a, "B": b}
        same: Images = {}
        if self.identity_weight:  # G treats each image independently, so one pass serves both losses
            fake_b, same_b = to_b(torch.cat([a, b])).chunk(2)
            fake_a, same_a = to_a(torch.cat([b, a])).chunk(2)
            same = {"A": same_a, "B": same_b}
        else:
            fake_a, fake_b = to_a(b), to_b(a)
        fakes: Images = {"A": fake_a, "B": fake_b}
        self.update("discriminator_pair", lambda: self.discriminators_loss(real, fakes))
        self.update("generator_pair", lambda: self.generators_loss(real, fakes, same))

    def training_step(self, batch: UnpairedBatch, batch_idx: int) -> None:
        """Run the step, then add its translations to the pools once all processes are done."""
        keys = {kind: self._pool_key(kind) for kind in self.pools}  # before the step counts as done
        layout = self._layout(batch)
        self._shown = {"A": [], "B": []}
        super().training_step(batch, batch_idx)
        for kind, pool in self.pools.items():
            if pool.size:
                pool.remember(joined(torch.cat(self._shown[kind]), layout.start, layout.total), *keys[kind])

    def configure_optimizers(self) -> list[OptimizerLRSchedulerConfig]:
        """Return Adam for each player, and its schedule, stepped per batch."""
        configs: list[OptimizerLRSchedulerConfig] = []
        for name in self.players:
            optimizer = Adam(getattr(self, name).parameters(), lr=self.lr, betas=(self.beta1, 0.999), fused=True)
            schedule = constant_linear(optimizer, self.schedule_steps)
            configs.append({"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}})
        return configs

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the pools beside the weights; they are not part of the model, and exports leave them out."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_POOLS_KEY] = {kind: pool.images for kind, pool in self.pools.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the pools of a resumed run.

        Raises:
            UserError: the checkpoint has none, or training cannot be resumed from it.
        """
        super().on_load_checkpoint(checkpoint)
        kinds = dict.fromkeys(self.pools, (Tensor, NoneType))
        images = checked_state(checkpoint.get(_POOLS_KEY), kinds, _POOLS_KEY)
        for kind, pool in self.pools.items():
            pool.images = images[kind]

    def _pool_key(self, kind: Kind) -> tuple[int, ...]:
        """Return the key of this step's swaps with a pool; it has five numbers, to differ from other draws."""
        return run_seed(), self.step, 0, 0, ord(kind)

    # ---- held-out images

    def validation_step(self, batch: UnpairedBatch, batch_idx: int) -> None:
        """Score held-out images by their full cycle, and against their counterparts if they have any."""
        a, b = batch["image_a"], batch["image_b"]
        fake_a, fake_b = self.edit(b, "BtoA"), self.edit(a, "AtoB")
        back_a, back_b = self.edit(fake_b, "BtoA"), self.edit(fake_a, "AtoB")
        self.log_held_out("cycle", (mae(_unit(back_a), _unit(a)) + mae(_unit(back_b), _unit(b))) / 2)
        if self.held_out_pairs:
            for direction, fake, partner in (("AtoB", fake_b, b), ("BtoA", fake_a, a)):
                for name, score in _SCORES.items():
                    self.log_held_out(f"{name}_{direction}", score(_unit(fake), _unit(partner)))


def _total(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


def _unit(images: Tensor) -> Tensor:
    """Map [-1, 1] to [0, 1]."""
    return 0.5 * images + 0.5
