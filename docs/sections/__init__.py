"""The generated parts of the documents, a module for each room that has some."""
