using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Notices that a file of an image was cut short while it was read: QEMU gives zeros for what is gone, without an error.
/// Safe for concurrent use, except for <see cref="Dispose"/>.
/// </summary>
internal sealed class LayerLengths : IDisposable
{
    private readonly List<(string Path, SafeFileHandle File, long Bytes)> _layers = [];

    public static LayerLengths Open(IReadOnlyList<ImageLayer> layers)
    {
        var lengths = new LayerLengths();
        try
        {
            foreach (var layer in layers)
            {
                var file = File.OpenHandle(layer.Path, share: FileShare.ReadWrite);
                lengths._layers.Add((layer.Path, file, RandomAccess.GetLength(file)));
            }
            return lengths;
        }
        catch
        {
            lengths.Dispose();
            throw;
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.SnapshotLost"/>: what was read last may be zeros instead of data.</exception>
    public void RequireUncut()
    {
        foreach (var (path, file, bytes) in _layers)
        {
            if (RandomAccess.GetLength(file) < bytes)
            {
                throw WasCut(path);
            }
        }
    }

    public static FaultException WasCut(string path) => new(FaultReason.SnapshotLost, $"The image {path} was cut short while it was read. See what else writes to it, and back up again.");

    public void Dispose() => _layers.ForEach(static layer => layer.File.Dispose());
}
