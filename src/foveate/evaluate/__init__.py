"""Measuring models: tasks, statistics, runs and reports. Sits on top; never told which engine answers."""
