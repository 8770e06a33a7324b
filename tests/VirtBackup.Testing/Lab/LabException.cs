namespace VirtBackup.Testing.Lab;

/// <summary>The lab could not do what a test asked of it: a program failed, or a guest or monitor refused a command.</summary>
public sealed class LabException(string message, Exception? inner = null) : Exception(message, inner);
