using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Capture;

/// <summary>A small memory of the machine as a stream: it is read, named and sealed as a disk is.</summary>
internal sealed class CapturedContent(MachineContent content) : ICapturedDisk
{
    public DiskSummary Disk { get; } = new(content.Id, content.Name, content.Bytes.Length, "raw", null);

    public bool ChangedOnly => false;

    public string Reason => "always read whole: it is small";

    public string BaseToken => "";

    public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await Task.CompletedTask;
        if (!content.Bytes.IsEmpty)
        {
            yield return new ByteRange(0, content.Bytes.Length);
        }
    }

    public ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        content.Bytes.Slice((int)offset, destination.Length).CopyTo(destination);
        return ValueTask.CompletedTask;
    }
}
