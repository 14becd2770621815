"""config.toml as typed, validated objects."""
