namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Words of scripts for sh (POSIX, Shell Command Language 2.2.2).</summary>
internal static class ShellWord
{
    /// <summary>One word, whatever it holds.</summary>
    public static string Quote(string text) => "'" + text.Replace("'", "'\\''", StringComparison.Ordinal) + "'";
}
