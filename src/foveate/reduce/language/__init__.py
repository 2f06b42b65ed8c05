"""Methods that drop visual tokens between layers of the language model, on the reference path."""
