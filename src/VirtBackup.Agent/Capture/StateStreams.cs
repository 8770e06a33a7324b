using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Capture;

/// <summary>The streams of a captured running state.</summary>
internal static class StateStreams
{
    /// <summary>
    /// Four pages: an idle guest writes to single pages all over its memory, and everything around them is stored again with them. What
    /// is cut by content gains nothing here, since pages do not move.
    /// </summary>
    public static MapShape Shape => MapShape.Of(Chunker.Fixed, 14);

    public static bool IsState(StreamKind kind) => kind is StreamKind.RamState or StreamKind.DeviceState;

    public static IEnumerable<(ICapturedDisk Source, StreamKind Kind)> Of(ICapture capture) =>
        capture.State is { } state ? [(state.Memory, StreamKind.RamState), (state.Devices, StreamKind.DeviceState)] : [];

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it was asked for, and the capture has none.</exception>
    public static void Require(CaptureRequest request, ICapture capture)
    {
        if (request.WithState != StateCapture.None && capture.State is null)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The machine {capture.Configuration.Name} has no running state to capture: it is off, or its platform has none. Start it, or back up without '--with-state'.");
        }
    }

    public static MapShape ShapeOf(StreamKind kind, MapShape ofDisks) => IsState(kind) ? Shape : ofDisks;

    /// <summary>What a manifest says of it; null: it was not captured.</summary>
    public static StateDetails? Describe(ICapture capture, IReadOnlyList<DiskRun> streams) => capture.State is { } state
        ? new StateDetails((long)Math.Ceiling(state.Paused.TotalMilliseconds), streams.Where(stream => IsState(stream.Kind)).Sum(stream => stream.BytesSent)) : null;

    public static StateCapture ModeOf(Protocol.Common.V1.StateCapture asked) => asked switch
    {
        Protocol.Common.V1.StateCapture.Live => StateCapture.Live,
        Protocol.Common.V1.StateCapture.Stopped => StateCapture.Stopped,
        _ => StateCapture.None,
    };
}
