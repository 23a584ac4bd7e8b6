"""The pages of the site: each is a function of the evidence and the texts."""
