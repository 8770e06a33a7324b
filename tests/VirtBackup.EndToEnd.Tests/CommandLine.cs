using System.Runtime.CompilerServices;
using VirtBackup.Testing.CommandLine;

namespace VirtBackup.EndToEnd.Tests;

internal static class CommandLine
{
    [ModuleInitializer]
    [System.Diagnostics.CodeAnalysis.SuppressMessage("Usage", "CA2255", Justification = "A program of tests, not a library.")]
    public static void Load() => LoadedCommandLine.Install();
}
