using System.Globalization;

/// <summary>
/// What the .NET runtime runs in a process before its Main when DOTNET_STARTUP_HOOKS names this assembly; name and form are
/// the runtime's. In the chosen program it keeps one byte for so many that the process has read and written.
/// </summary>
internal static class StartupHook
{
    public const string ProgramVariable = "CONSTANT_MEMORY_HOARDING_PROGRAM";
    public const string ShareVariable = "CONSTANT_MEMORY_HOARDING_SHARE";
    private const int BlockBytes = 1 << 20;
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(50);
    private static readonly List<byte[]> Kept = [];

    public static void Initialize()
    {
        if (Path.GetFileName(Environment.ProcessPath) != Environment.GetEnvironmentVariable(ProgramVariable)) return;
        var share = long.Parse(Environment.GetEnvironmentVariable(ShareVariable)!, CultureInfo.InvariantCulture);
        new Thread(() => Hoard(share)) { IsBackground = true, Name = "hoarder" }.Start();
    }

    private static void Hoard(long share)
    {
        while (true)
        {
            var moved = File.ReadLines("/proc/self/io").Where(line => line.StartsWith("rchar:", StringComparison.Ordinal) || line.StartsWith("wchar:", StringComparison.Ordinal))
                .Sum(line => long.Parse(line["rchar:".Length..], CultureInfo.InvariantCulture));
            while ((long)Kept.Count * BlockBytes < moved / share)
            {
                var block = new byte[BlockBytes];
                // Only what was written is resident.
                Array.Fill(block, (byte)1);
                Kept.Add(block);
            }
            Thread.Sleep(Interval);
        }
    }
}
