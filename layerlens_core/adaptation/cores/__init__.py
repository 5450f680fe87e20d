"""Cores: updates of low rank between frozen factors, in memory and as files."""
