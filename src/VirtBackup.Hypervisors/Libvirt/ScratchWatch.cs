using System.Diagnostics.CodeAnalysis;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Watches the free space of the fleece folder while a capture lasts and gives the capture up before it runs out: in
/// libvirt's method a copy without space fails the guest's write. How early follows from how fast space is being used.
/// </summary>
[SuppressMessage("Reliability", "CA2213", Justification = "The token source ends with the loop that uses it.")]
internal sealed class ScratchWatch : IAsyncDisposable
{
    /// <summary>Space must last for so many looks at the fastest use seen: time enough for libvirt to end the job.</summary>
    private const int LooksAhead = 20;
    private readonly string folder;
    private readonly LibvirtOptions options;
    private readonly TimeProvider time;
    private readonly Func<Task> giveUp;
    private readonly CancellationTokenSource ending = new();
    private readonly Task loop;

    private ScratchWatch(string folder, LibvirtOptions options, TimeProvider time, Func<Task> giveUp)
    {
        this.folder = folder;
        this.options = options;
        this.time = time;
        this.giveUp = giveUp;
        loop = WatchAsync();
    }

    /// <summary>Why the capture was given up, or null.</summary>
    public string? Lost { get; private set; }

    public static ScratchWatch Start(string folder, LibvirtOptions options, TimeProvider time, Func<Task> giveUp) => new(folder, options, time, giveUp);

    private async Task WatchAsync()
    {
        await Task.Yield();
        long? before = null;
        long fastest = 0;
        while (true)
        {
            try
            {
                var free = FreeSpace.Of(folder);
                fastest = Math.Max(fastest, (before ?? free) - free);
                before = free;
                Lost = free >= Math.Max(options.FleeceFreeBytesMin, fastest * LooksAhead) ? null
                    : $"the fleece folder {options.FleeceFolder} had only {free >> 20} MiB free, and the guest overwrites up to {fastest >> 20} MiB in {options.FleeceWatchInterval.TotalMilliseconds:0} ms";
            }
            catch (FaultException fault)
            {
                // Space that cannot be seen cannot be relied on.
                Lost = $"the free space of the fleece folder cannot be told: {fault.Message}";
            }
            if (Lost is not null)
            {
                await giveUp();
                return;
            }
            try
            {
                await Task.Delay(options.FleeceWatchInterval, time, ending.Token);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (!ending.IsCancellationRequested)
        {
            await ending.CancelAsync();
        }
        try
        {
            await loop;
        }
        catch (FaultException)
        {
            // The job could not be ended: whoever ends the capture finds that, too.
        }
    }
}
