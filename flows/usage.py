"""Wrong calls of the command line in one sentence: all options that are missing at once, values with their rule."""

from typing import Any

import typer
from typer.core import TyperGroup

from tasks.wording import listed, rule_of

WRONG_CALL = 2


class Verbs(TyperGroup):
    """The verbs; what is wrong with a call of one is written as all our errors are."""

    def invoke(self, ctx: Any) -> Any:
        """Call the verb that was asked for.

        Raises
        ------
        typer.Exit
            With status 2, if the call is wrong.
        """
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            raise _refused(_of_option(error), error) from None
        except Exception as error:
            if getattr(error, "exit_code", None) != WRONG_CALL or not hasattr(error, "format_message"):
                raise
            raise _refused(error.format_message(), error) from None


def _refused(sentence: str, error: Any) -> typer.Exit:
    path = error.ctx.command_path if error.ctx is not None else "python -m flows"
    typer.echo(f"error: {sentence.rstrip('.')}; see {path} --help", err=True)
    return typer.Exit(WRONG_CALL)


def _of_option(error: Any) -> str:
    """What is wrong with the value of an option, or which options are missing."""
    if type(error).__name__ == "MissingParameter":
        known = error.ctx.params
        missing = [item.opts[0] for item in error.ctx.command.params if item.required and item.name not in known]
        return f"{listed(missing or [error.param.opts[0]])} {'is' if len(missing) < 2 else 'are'} missing"
    reasons = getattr(error.__cause__, "errors", None)  # of pydantic, by which Typer reads values
    if reasons is None or error.param is None:
        return str(error.format_message())
    first = reasons()[0]
    return f"{error.param.opts[0]} is wrong: {rule_of(first)}, got {first['input']!r}"
