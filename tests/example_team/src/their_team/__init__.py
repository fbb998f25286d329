"""A package of another team: two corpora, a mixture of them, and an objective. Nothing of unmask is edited."""
