using VirtBackup.Controller.Admin;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Migrations;

/// <summary>What holds where a migration's options say nothing, and what they may say.</summary>
internal static class MigrationDefaults
{
    private const uint RoundsMax = 64, RoundsDefault = 8, StopSecondsMax = 3600;
    private const ulong LastBytesDefault = 64 << 20;

    public static int RoundsOf(MigrationOptions options) => (int)(options.RoundsMax == 0 ? RoundsDefault : options.RoundsMax);

    public static long LastBytesOf(MigrationOptions options) => (long)Math.Min(long.MaxValue, options.LastBytesMax == 0 ? LastBytesDefault : options.LastBytesMax);

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>.</exception>
    public static void Require(MigrationOptions options)
    {
        if (options.RoundsMax > RoundsMax || options.Stop is { TimeoutSeconds: > StopSecondsMax })
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A migration has at most {RoundsMax} rounds, and waits for a guest's shutdown for at most {StopSecondsMax} s.");
        }
        if (options.Agent.Length > 0 == options.Storage is not null)
        {
            throw new FaultException(FaultReason.InvalidArgument, "Say either to which host the machine moves, or to which storage of its own host its disks move.");
        }
        if (options.Agent.Length > 0 && (options.Restore is null || options.Restore.Folder.Length == 0))
        {
            throw new FaultException(FaultReason.InvalidArgument, "Say into which folder of the target host the machine moves (--folder).");
        }
        if (options.Restore is { } restore)
        {
            _ = JobStarter.ToBytes(restore);
            if (restore.OnlyDisks.Count > 0 || restore.WithState)
            {
                throw new FaultException(FaultReason.InvalidArgument, "A machine moves to another host with all its disks, and without its running state.");
            }
        }
        if (options.Storage is { } storage && storage.Target.Length == 0 && (storage.Disks.Count == 0 || storage.Disks.Any(static disk => disk.Target.Length == 0)))
        {
            throw new FaultException(FaultReason.InvalidArgument, "Say where the disks move to.");
        }
    }
}
