using System.Runtime.CompilerServices;
using VirtBackup.Testing.Links;

namespace VirtBackup.Lab.Tests;

/// <summary>This program, when it is asked by its environment, makes two sites and a link, and waits for its end.</summary>
internal static class LinkHolder
{
    public const string Variable = "VIRTBACKUP_HOLD_LINK";

    [ModuleInitializer]
    internal static void Hold()
    {
        if (Environment.GetEnvironmentVariable(Variable) is null) return;
        var first = NetworkSite.CreateAsync("first").GetAwaiter().GetResult();
        var second = NetworkSite.CreateAsync("second").GetAwaiter().GetResult();
        NetworkLink.CreateAsync(first, second, 1, new LinkOptions(BitsPerSecond: 1_000_000)).GetAwaiter().GetResult();
        Console.WriteLine($"held: {first.Inside(Space)}");
        Thread.Sleep(Timeout.Infinite);
    }

    /// <summary>The namespace of this thread, as the kernel names it.</summary>
    public static string Space() => new FileInfo("/proc/thread-self/ns/net").LinkTarget!;
}
