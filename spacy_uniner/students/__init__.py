"""Students: whatever answers "What describes TYPE in the text?"."""
