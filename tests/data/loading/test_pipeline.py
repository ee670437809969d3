import io

import numpy as np
import pytest
import torch
from PIL import Image

from ltrsys.data.config import IMAGENET_MEAN, IMAGENET_STD, AugmentationConfig, DataConfig
from ltrsys.data.loading.augmentation import Augmentation, evaluation_augmentation, training_augmentation
from ltrsys.data.loading.pipeline import DecodingError, ImagePipeline
from ltrsys.errors import UsageError
from tests.data.reference import evaluation_image, odd_photograph, photographs, sizes, training_image

CPU = torch.device("cpu")
ENCODED = photographs()
COUNT = len(ENCODED)
CROP_AND_FLIP = AugmentationConfig()
WIDTH, HEIGHT = sizes(ENCODED)
both_interpolations = pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
GREY_LEVELS = {"mean": [0.0, 0.0, 0.0], "std": [1 / 255] * 3}


@pytest.fixture
def pipeline():
    """Make pipelines that give grey levels of 0 to 255, and close them."""
    made = []

    def make(batch_size=COUNT, training=False, channels_last=False, **config):
        config = DataConfig(shards=".", **({"threads": 2} | GREY_LEVELS | config))
        made.append(
            ImagePipeline(config, batch_size=batch_size, device=CPU, training=training, channels_last=channels_last)
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def augment(config=CROP_AND_FLIP, epoch=0, count=COUNT):
    return training_augmentation(
        config,
        seed=1,
        epoch=epoch,
        positions=np.arange(count),
        width=WIDTH[:count],
        height=HEIGHT[:count],
        image_size=224,
    )


def differences(images, expected):
    return [abs(image.numpy() - pixels).mean() for image, pixels in zip(images, expected, strict=True)]


@both_interpolations
def test_training_pixels_are_those_of_pil_and_torchvision(pipeline, interpolation):
    decode, mirrored = pipeline(interpolation=interpolation), 0
    for epoch in range(8):
        done = augment(epoch=epoch)
        mirrored += done.mirror.sum()
        decode.feed(ENCODED, done)
        expected = [training_image(one, done, number, 224, interpolation) for number, one in enumerate(ENCODED)]
        assert max(differences(decode.take(), expected)) < 0.5
    assert 0 < mirrored < 8 * COUNT


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("augmentation", [CROP_AND_FLIP, AugmentationConfig(erasing={"probability": 1.0})], ids=str)
def test_training_pixels_of_half_the_size_are_those_of_float32_rounded(pipeline, augmentation, channels_last):
    changes = {"augmentation": augmentation, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    whole, half = (
        pipeline(training=True, channels_last=channels_last, pixels=pixels, **changes)
        for pixels in ("float32", "float16")
    )
    done = augment(augmentation)
    for one in (whole, half):
        one.feed(ENCODED, done)
    images, rounded = whole.take(), half.take()
    assert rounded.dtype == torch.float16
    assert rounded.stride() == images.stride()
    assert torch.equal(rounded, images.half())
    done = evaluation_augmentation(WIDTH, HEIGHT, resize=256, image_size=224)
    evaluated = pipeline(pixels="float16", channels_last=channels_last)
    evaluated.feed(ENCODED, done)
    assert evaluated.take().dtype == torch.float32


@both_interpolations
@pytest.mark.parametrize(("resize", "image_size"), [(256, 224), (255, 224), (288, 288), (33, 32)])
def test_evaluation_pixels_are_those_of_pil_and_torchvision(pipeline, resize, image_size, interpolation):
    decode = pipeline(resize=resize, image_size=image_size, interpolation=interpolation)
    done = evaluation_augmentation(WIDTH, HEIGHT, resize=resize, image_size=image_size, interpolation=interpolation)
    decode.feed(ENCODED, done)
    expected = [evaluation_image(one, resize, image_size, interpolation) for one in ENCODED]
    assert max(differences(decode.take(), expected)) < 0.5


@both_interpolations
def test_the_evaluation_window_holds_all_that_the_filter_reaches(pipeline, interpolation):
    side, decode = 300, pipeline(batch_size=1, resize=24, image_size=8, interpolation=interpolation)
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[86:214, 86:214] = 128  # the square is 100 to 200, and a pixel of the result 12.5 wide
    encoded, size = [png(pixels)], np.array([side])
    done = evaluation_augmentation(size, size, resize=24, image_size=8, interpolation=interpolation)
    region = (done.region + done.geometry[:, None, :2]).astype(np.float32)
    decode.feed(encoded, done)
    of_the_window = decode.take()
    decode.feed(encoded, Augmentation(np.array([[0, 0, side, side, 0]], np.int32), region, None))
    assert torch.equal(of_the_window, decode.take())


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


@pytest.mark.parametrize("size", [(64, 1), (1, 64), (20_000, 200), (1, 1)], ids=str)
def test_odd_shapes_that_pass_the_door_have_the_pixels_of_pil_and_torchvision(pipeline, size):
    encoded = [odd_photograph(*size)]
    width, height = sizes(encoded)
    crops = training_augmentation(
        CROP_AND_FLIP, seed=1, epoch=0, positions=np.arange(1), width=width, height=height, image_size=32
    )
    decode = pipeline(batch_size=1, image_size=32, resize=36)
    decode.feed(encoded, crops)
    assert max(differences(decode.take(), [training_image(encoded[0], crops, 0, 32)])) < 0.5
    decode.feed(encoded, evaluation_augmentation(width, height, resize=36, image_size=32))
    assert max(differences(decode.take(), [evaluation_image(encoded[0], 36, 32)])) < 0.5


@pytest.mark.parametrize(
    "jitter",
    [
        {"brightness": 0.9},
        {"contrast": 0.9},
        {"saturation": 0.9},
        dict.fromkeys(("brightness", "contrast", "saturation"), 0.4),
    ],
    ids=lambda jitter: " ".join(jitter),
)
def test_colours_are_those_of_torchvision(pipeline, jitter):
    decode = pipeline(training=True, augmentation=AugmentationConfig(**jitter))
    for epoch in range(4):
        done = augment(AugmentationConfig(**jitter), epoch)
        decode.feed(ENCODED, done)
        expected = [training_image(one, done, number, 224) for number, one in enumerate(ENCODED)]
        assert max(differences(decode.take(), expected)) < 1


def test_channels_are_normalised_each_by_its_own_mean_and_deviation(pipeline):
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    grey, normalised = pipeline(), pipeline(mean=mean, std=std)
    for one in (grey, normalised):
        one.feed(ENCODED, augment())
    expected = (grey.take() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalised.take(), expected, atol=1e-5, rtol=0)


def test_channels_last_are_the_same_pixels_in_another_memory_format(pipeline):
    plain, last = pipeline(), pipeline(channels_last=True)
    for one in (plain, last):
        one.feed(ENCODED, augment())
    images = last.take()
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, plain.take())


def test_batches_come_out_in_order_and_may_be_smaller(pipeline):
    decode, alone = pipeline(), pipeline()
    counts = [6, 1, 3, 6, 2]
    for epoch, count in enumerate(counts):
        decode.feed(ENCODED[:count], augment(epoch=epoch, count=count))
    for epoch, count in enumerate(counts):
        alone.feed(ENCODED[:count], augment(epoch=epoch, count=count))
        assert torch.equal(decode.take(), alone.take())


def test_a_batch_stays_as_it_was_while_others_are_made(pipeline):
    decode = pipeline()
    decode.feed(ENCODED, augment())
    kept = decode.take()
    copy = kept.clone()
    for epoch in range(1, 6):
        decode.feed(ENCODED, augment(epoch=epoch))
        decode.take()
    assert torch.equal(kept, copy)


@pytest.mark.parametrize("damage", [b"", b"no image at all", ENCODED[0].tobytes()[:40]], ids=["empty", "text", "cut"])
def test_an_undecodable_image_is_an_error_after_which_the_pipeline_goes_on(pipeline, damage):
    decode = pipeline()
    bad = [*ENCODED[:2], np.frombuffer(damage, np.uint8), *ENCODED[3:]]
    decode.feed(bad, augment())
    decode.feed(ENCODED, augment())
    with pytest.raises(DecodingError) as caught:
        decode.take()
    assert caught.value.encoded is bad
    assert decode.take().shape == (COUNT, 3, 224, 224)


@pytest.mark.long
def test_a_thousand_damaged_images_are_decoded_or_refused(pipeline):
    """What is damaged behind the header decodes to some image; no damage brings the process down."""
    decode, random = pipeline(batch_size=4, image_size=32), np.random.default_rng(0)
    outcomes = {"decoded": 0, "refused": 0}
    for _ in range(1000):
        number = random.integers(COUNT)
        damaged = damage_somehow(ENCODED[number].tobytes(), random)
        whole = [one for place, one in enumerate(ENCODED[:4]) if place != number][:3]
        sources = [number, *[place for place in range(4) if place != number][:3]]
        done = training_augmentation(
            CROP_AND_FLIP,
            seed=1,
            epoch=0,
            positions=np.arange(4),
            width=WIDTH[sources],
            height=HEIGHT[sources],
            image_size=32,
        )
        decode.feed([np.frombuffer(damaged, np.uint8), *whole], done)
        try:
            assert decode.take().isfinite().all()
            outcomes["decoded"] += 1
        except DecodingError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100, outcomes


def damage_somehow(encoded, random):
    """Flip bits, cut, blank out, swap two parts, damage the header, or put noise at the end."""
    damaged = bytearray(encoded)
    first, second, third = sorted(random.integers(0, len(encoded), 3))
    kind = random.choice(["flip", "cut", "blank", "swap", "header", "noise"])
    if kind in ("flip", "header"):
        for place in random.integers(0, 650 if kind == "header" else len(encoded), random.integers(1, 20)):
            damaged[place] ^= 1 << random.integers(8)
    elif kind == "cut":
        del damaged[second:]
    elif kind == "blank":
        damaged[first:second] = bytes(second - first)
    elif kind == "swap":
        damaged = damaged[:first] + damaged[second:third] + damaged[first:second] + damaged[third:]
    else:
        damaged[second:] = random.bytes(len(encoded) - second)
    return bytes(damaged)


def test_what_ctrl_c_has_interrupted_can_be_closed(pipeline):
    def interrupted():
        yield ENCODED[0]
        raise KeyboardInterrupt

    one = pipeline()
    one.feed(ENCODED, augment())
    with pytest.raises(KeyboardInterrupt):
        one.feed(interrupted(), augment())
    one.close()


def test_decoding_on_a_gpu_needs_one(pipeline):
    with pytest.raises(UsageError, match=r"data\.decode=gpu, but this process runs on cpu"):
        pipeline(decode="gpu")
