"""Fixed datasets: shipped in packages, procedurally drawn, or published."""
