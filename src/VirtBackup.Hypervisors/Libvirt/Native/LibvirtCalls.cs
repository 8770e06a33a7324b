using System.Runtime.InteropServices;

namespace VirtBackup.Hypervisors.Libvirt.Native;

/// <summary>
/// libvirt's C interface (libvirt.so.0, 7.2 or later), as its reference names it. All calls block; a negative number or an
/// invalid handle is a failure, which <see cref="LibvirtFailure"/> reads on the same thread.
/// </summary>
internal static partial class LibvirtCalls
{
    public const string Library = "libvirt.so.0";

    [LibraryImport(Library, EntryPoint = "virInitialize")]
    public static partial int Initialize();

    [LibraryImport(Library, EntryPoint = "virEventRegisterDefaultImpl")]
    public static partial int RegisterEventLoop();

    [LibraryImport(Library, EntryPoint = "virEventRunDefaultImpl")]
    public static partial int RunEventLoop();

    [LibraryImport(Library, EntryPoint = "virSetErrorFunc")]
    public static partial void SetErrorHandler(nint data, nint handler);

    [LibraryImport(Library, EntryPoint = "virGetLastError")]
    public static partial nint GetLastError();

    [LibraryImport(Library, EntryPoint = "virResetLastError")]
    public static partial void ResetLastError();

    [LibraryImport("libc", EntryPoint = "free")]
    public static partial void Free(nint memory);

    [LibraryImport(Library, EntryPoint = "virConnectOpen", StringMarshalling = StringMarshalling.Utf8)]
    public static partial ConnectionHandle Open(string uri);

    [LibraryImport(Library, EntryPoint = "virConnectClose")]
    public static partial int CloseConnection(nint connection);

    [LibraryImport(Library, EntryPoint = "virConnectIsAlive")]
    public static partial int IsAlive(ConnectionHandle connection);

    [LibraryImport(Library, EntryPoint = "virConnectSetKeepAlive")]
    public static partial int SetKeepAlive(ConnectionHandle connection, int intervalSeconds, uint count);

    /// <param name="version">Of the daemon: 1000000 for each major, 1000 for each minor.</param>
    [LibraryImport(Library, EntryPoint = "virConnectGetLibVersion")]
    public static partial int GetVersion(ConnectionHandle connection, out nuint version);

    [LibraryImport(Library, EntryPoint = "virConnectGetDomainCapabilities", StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint GetDomainCapabilities(ConnectionHandle connection, string? emulator, string? architecture, string? machine, string? type, uint flags);

    /// <returns>0: incompatible; 1: identical; 2: the host has more.</returns>
    [LibraryImport(Library, EntryPoint = "virConnectCompareHypervisorCPU", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int CompareCpu(ConnectionHandle connection, string? emulator, string? architecture, string? machine, string? type, string cpu, uint flags);

    [LibraryImport(Library, EntryPoint = "virConnectDomainXMLToNative", StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint WriteNative(ConnectionHandle connection, string format, string xml, uint flags);

    [LibraryImport(Library, EntryPoint = "virConnectListAllDomains")]
    public static partial int ListDomains(ConnectionHandle connection, out nint domains, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainFree")]
    public static partial int FreeDomain(nint domain);

    [LibraryImport(Library, EntryPoint = "virDomainLookupByUUIDString", StringMarshalling = StringMarshalling.Utf8)]
    public static partial DomainHandle FindDomainByUuid(ConnectionHandle connection, string uuid);

    [LibraryImport(Library, EntryPoint = "virDomainLookupByName", StringMarshalling = StringMarshalling.Utf8)]
    public static partial DomainHandle FindDomainByName(ConnectionHandle connection, string name);

    [LibraryImport(Library, EntryPoint = "virDomainGetName")]
    public static partial nint GetName(DomainHandle domain);

    /// <param name="uuid">The first of 16 bytes.</param>
    [LibraryImport(Library, EntryPoint = "virDomainGetUUID")]
    public static partial int GetUuid(DomainHandle domain, ref byte uuid);

    [LibraryImport(Library, EntryPoint = "virDomainGetXMLDesc")]
    public static partial nint GetXml(DomainHandle domain, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainIsActive")]
    public static partial int IsActive(DomainHandle domain);

    [LibraryImport(Library, EntryPoint = "virDomainIsPersistent")]
    public static partial int IsPersistent(DomainHandle domain);

    [LibraryImport(Library, EntryPoint = "virDomainHasManagedSaveImage")]
    public static partial int HasSavedState(DomainHandle domain, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainGetState")]
    public static partial int GetState(DomainHandle domain, out int state, out int reason, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainGetBlockInfo", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int GetBlockInfo(DomainHandle domain, string disk, out BlockInfo info, uint flags);

    /// <param name="parameters">Room for <paramref name="count"/> of virTypedParameter; 0: only their number is asked for.</param>
    [LibraryImport(Library, EntryPoint = "virDomainBlockStatsFlags", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int GetBlockStats(DomainHandle domain, string disk, nint parameters, ref int count, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainGetJobInfo")]
    public static partial int GetJobInfo(DomainHandle domain, out JobInfo info);

    [LibraryImport(Library, EntryPoint = "virDomainAbortJob")]
    public static partial int AbortJob(DomainHandle domain);

    [LibraryImport(Library, EntryPoint = "virDomainBackupBegin", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int BeginBackup(DomainHandle domain, string backupXml, string? checkpointXml, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainBackupGetXMLDesc")]
    public static partial nint GetBackupXml(DomainHandle domain, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainFSFreeze")]
    public static partial int Freeze(DomainHandle domain, nint mountPoints, uint count, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainFSThaw")]
    public static partial int Thaw(DomainHandle domain, nint mountPoints, uint count, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainListAllCheckpoints")]
    public static partial int ListCheckpoints(DomainHandle domain, out nint checkpoints, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainCheckpointLookupByName", StringMarshalling = StringMarshalling.Utf8)]
    public static partial CheckpointHandle FindCheckpoint(DomainHandle domain, string name, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainCheckpointFree")]
    public static partial int FreeCheckpoint(nint checkpoint);

    [LibraryImport(Library, EntryPoint = "virDomainCheckpointGetName")]
    public static partial nint GetName(CheckpointHandle checkpoint);

    [LibraryImport(Library, EntryPoint = "virDomainCheckpointGetXMLDesc")]
    public static partial nint GetXml(CheckpointHandle checkpoint, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainCheckpointDelete")]
    public static partial int Delete(CheckpointHandle checkpoint, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainCheckpointCreateXML", StringMarshalling = StringMarshalling.Utf8)]
    public static partial CheckpointHandle CreateCheckpoint(DomainHandle domain, string xml, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainDefineXMLFlags", StringMarshalling = StringMarshalling.Utf8)]
    public static partial DomainHandle Define(ConnectionHandle connection, string xml, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainCreate")]
    public static partial int Start(DomainHandle domain);

    [LibraryImport(Library, EntryPoint = "virDomainSaveFlags", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Save(DomainHandle domain, string path, string? xml, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainRestoreFlags", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Restore(ConnectionHandle connection, string path, string? xml, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainShutdownFlags")]
    public static partial int Shutdown(DomainHandle domain, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainDestroy")]
    public static partial int Destroy(DomainHandle domain);

    [LibraryImport(Library, EntryPoint = "virDomainSnapshotNum")]
    public static partial int CountSnapshots(DomainHandle domain, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainUndefineFlags")]
    public static partial int Undefine(DomainHandle domain, uint flags);

    [LibraryImport(Library, EntryPoint = "virNetworkLookupByName", StringMarshalling = StringMarshalling.Utf8)]
    public static partial NetworkHandle FindNetwork(ConnectionHandle connection, string name);

    [LibraryImport(Library, EntryPoint = "virNetworkIsActive")]
    public static partial int IsActive(NetworkHandle network);

    [LibraryImport(Library, EntryPoint = "virNetworkFree")]
    public static partial int FreeNetwork(nint network);

    [LibraryImport(Library, EntryPoint = "virStoragePoolLookupByTargetPath", StringMarshalling = StringMarshalling.Utf8)]
    public static partial PoolHandle FindPool(ConnectionHandle connection, string path);

    [LibraryImport(Library, EntryPoint = "virConnectListAllStoragePools")]
    public static partial int ListPools(ConnectionHandle connection, out nint pools, uint flags);

    [LibraryImport(Library, EntryPoint = "virStoragePoolGetXMLDesc")]
    public static partial nint GetXml(PoolHandle pool, uint flags);

    [LibraryImport(Library, EntryPoint = "virStoragePoolIsActive")]
    public static partial int IsActive(PoolHandle pool);

    [LibraryImport(Library, EntryPoint = "virStoragePoolRefresh")]
    public static partial int Refresh(PoolHandle pool, uint flags);

    [LibraryImport(Library, EntryPoint = "virStoragePoolFree")]
    public static partial int FreePool(nint pool);
}

/// <summary>virDomainBlockInfo. Bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct BlockInfo
{
    public ulong Capacity;
    public ulong Allocation;
    public ulong Physical;
}

/// <summary>virDomainJobInfo; only its kind is of interest here.</summary>
[StructLayout(LayoutKind.Sequential, Size = 96)]
internal struct JobInfo
{
    /// <summary>0: none; 3 to 5: ended.</summary>
    public int Type;
}
