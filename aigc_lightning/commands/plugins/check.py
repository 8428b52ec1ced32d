"""`aigc plugins check`: run the conformance kit."""

from aigc_lightning.commands.plugins.find import one_plugin, plugins_of_package
from aigc_lightning.config.command_line import command_parser, parse


def main(argv: list[str]) -> int:
    """Run the conformance kit on a plugin, or on all plugins of a package."""
    parser = command_parser(
        "aigc plugins check",
        main.__doc__,
        "aigc plugins check dcgan",
        "aigc plugins check aigc-sparkle --full",
        "aigc plugins check cyclegan --config cyclegan_shapes --set model.width=8",
    )
    parser.add_argument("name", help="a name, PACKAGE:NAME, a class path or a package")
    parser.add_argument("--full", action="store_true", help="also run the slow checks")
    parser.add_argument(
        "--config",
        help="a preset or config file that uses the plugin",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=V", help="such as --set model.width=8")
    options = parse(parser, argv)
    found = plugins_of_package(options.name) or [one_plugin(options.name)]

    from aigc_lightning.commands.plugins.conformance import run_checks  # imports torch: only after validation

    return run_checks(found, full=options.full, config=options.config, settings=options.set)
