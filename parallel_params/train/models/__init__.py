"""The models a job can name, with first weights that are functions of its seed."""
