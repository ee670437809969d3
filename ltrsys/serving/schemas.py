"""What is answered, as it stands in the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ltrsys.prediction.answers import Status

Shot = Literal["many", "medium", "few"]

_EXAMPLE: dict[str, Any] = {
    "class_id": 17,
    "name": "Larus fuscus",
    "probability": 0.81,
    "train_images": 14,
    "shot": "few",
    "taxonomy": {"genus": "Larus", "species": "Larus fuscus"},
    "similar": [{"sample": 2041, "similarity": 0.93, "thumbnail": "thumbnails/train/2041"}],
}


class SimilarImage(BaseModel):
    """A training image of a class that was answered."""

    sample: int = Field(description="Its number in the train split.")
    similarity: float = Field(description="The cosine between its features and those of the image, -1 to 1.")
    thumbnail: str | None = Field(
        description="Where its thumbnail is, relative to this server's page; null if nowhere."
    )


class ClassInfo(BaseModel):
    """A class that can be answered."""

    class_id: int = Field(description="The class's place in the model's outputs.")
    name: str
    train_images: int = Field(description="Training images of the class.")
    shot: Shot = Field(description="The group of the class, by its training images.")
    taxonomy: dict[str, str] = Field(description="Groups that it belongs to, by rank; empty where they are not known.")


class AnswerInfo(ClassInfo):
    """One class that an image may be of."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    probability: float
    similar: list[SimilarImage] = Field(description="Its training images that look most like it, if asked for.")


class PredictionInfo(BaseModel):
    """What is said of one image."""

    path: str = Field(description="The name of the file as it was sent; `image N` for the N-th of those without.")
    answers: list[AnswerInfo] = Field(description="The best classes, best first; empty where it cannot be read.")
    status: Status
    problem: str | None = Field(description="Why it cannot be read; null where it can.")


class PredictResponse(BaseModel):
    """What is said of all images of a request, in their order."""

    classifier: str
    predictions: list[PredictionInfo]


class QueueInfo(BaseModel):
    """Images that are uploaded and not yet named."""

    images: int
    limit: int


class HealthResponse(BaseModel):
    """Whether the server is ready, and what it serves."""

    ready: bool
    version: str = Field(description="Of ltrsys.")
    model: str = Field(description="The name of the run.")
    classifier: str = Field(description="What answers where none is named.")
    classifiers: list[str]
    classes: int
    thumbnails: bool = Field(description="Whether similar training images can be shown.")
    max_bytes: int = Field(description="Of one request.")
    queue: QueueInfo


class ClassesResponse(BaseModel):
    """All classes, in the order of the model's outputs."""

    classes: list[ClassInfo]


class ErrorResponse(BaseModel):
    """Why a request is not answered."""

    detail: str
