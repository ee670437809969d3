"""Parts of the config whose keys depend on the methods that are known, plug-ins included."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field, GetCoreSchemaHandler, ValidationError, create_model, field_validator
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from ltrsys.errors import UsageError
from ltrsys.registry import Method, Registry
from ltrsys.section import Section

S = TypeVar("S", bound=Section)


class MethodSection(Section, Method):
    """A section that is one method of several: `kind` is its name, the other keys are its settings."""

    # declared again: pydantic knows the class variables of models alone
    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    order: ClassVar[int] = 100

    kind: str = Field(default="", validate_default=True)

    @field_validator("kind")
    @classmethod
    def _is_its_name(cls, kind: str) -> str:
        return cls.name


class ByMethods(ABC, Generic[S]):
    """Decides the schema of a section only when a config is read; stands in the annotation of its field."""

    @abstractmethod
    def model(self, value: Any = None) -> type[S]:
        """Return the schema of a section that holds `value`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def validated(value: Any) -> Any:
            # a ValidationError in a validator keeps its places, below that of this field
            return value if isinstance(value, source) else self.model(value).model_validate(value)

        return core_schema.no_info_plain_validator_function(
            validated,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda section, info: section.model_dump(mode=info.mode), info_arg=True
            ),
        )


class OneOf(ByMethods[S]):
    """A section that is one method: its key `kind` names which, the others are that method's own."""

    def __init__(self, registry: Registry[Any], default: str) -> None:
        self.registry, self.default = registry, default

    def model(self, value: Any = None) -> type[S]:
        """Return the section of the method that `value` names."""
        kind = value.get("kind", self.default) if isinstance(value, Mapping) else self.default
        try:
            method: type[S] = self.registry.get(str(kind))
        except UsageError as error:
            problem = PydanticCustomError("unknown_method", "{message}", {"message": str(error).rstrip(".")})
            details = InitErrorDetails(type=problem, loc=("kind",), input=kind)
            raise ValidationError.from_exception_data(self.registry.kind, [details]) from None
        return method


def own_section(method: Any) -> tuple[Any, Any] | None:
    """Return the type and the default of a method's key: its `Config`, if that has a field."""
    return (method.Config, method.Config()) if method.Config.model_fields else None


class EachOf(ByMethods[S]):
    """A section that has, for every method with settings, a key of its name."""

    def __init__(
        self,
        registry: Registry[Any],
        base: type[S],
        key_of: Callable[[Any], tuple[Any, Any] | None] = own_section,
    ) -> None:
        """Take the methods of `registry` for keys of `base`; `key_of` returns a key's type and default."""
        self.registry, self.base, self.key_of = registry, base, key_of
        self._made: dict[tuple[Any, ...], type[S]] = {}

    def model(self, value: Any = None) -> type[S]:
        """Return `base` with the sections of the methods that are known now."""
        methods = tuple(self.registry)
        if methods not in self._made:  # one class for the same methods: sections of two classes are not equal
            keys = {method.name: self.key_of(method) for method in methods}
            sections: dict[str, Any] = {name: key for name, key in keys.items() if key is not None}
            self._made[methods] = create_model(
                self.base.__name__, __base__=self.base, __doc__=self.base.__doc__, **sections
            )
        return self._made[methods]
