"""Objectives, trainers and recipes. Knows models and the world; knows no HTTP."""
