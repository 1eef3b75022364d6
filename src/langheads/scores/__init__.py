"""Scores of every head: how much does a language's loss depend on it?"""
