using System.Net;
using Amazon.S3;
using Amazon.S3.Model;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.S3;

/// <summary>S3's object lock. It fails as the SDK does. Safe for concurrent use.</summary>
internal sealed class S3Retention(AmazonS3Client client, StoreLocation place)
{
    private static readonly string[] s_notRetained = ["NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest"];

    public async Task<bool> RequireAsync(CancellationToken cancellationToken)
    {
        try
        {
            var found = await client.GetObjectLockConfigurationAsync(new GetObjectLockConfigurationRequest { BucketName = place.Bucket }, cancellationToken);
            if (found.ObjectLockConfiguration?.ObjectLockEnabled == ObjectLockEnabled.Enabled)
            {
                return true;
            }
        }
        catch (AmazonS3Exception without) when (without.ErrorCode == "ObjectLockConfigurationNotFoundError")
        {
            // Said below.
        }
        throw new CloudRequestException(FailureKind.Final, $"the bucket '{place.Bucket}' was made without object lock")
        {
            Reason = FaultReason.FailedPrecondition,
            Advice = "Take a bucket that was made with it, or remove lock= from the repository's address: then locks bind the controller alone.",
        };
    }

    public async Task<bool> RetainAsync(string name, DateTimeOffset until, CancellationToken cancellationToken)
    {
        var wanted = new ObjectLockRetention { Mode = place.Lock == ProviderLock.Compliance ? ObjectLockRetentionMode.Compliance : ObjectLockRetentionMode.Governance, RetainUntilDate = until.UtcDateTime };
        try
        {
            await client.PutObjectRetentionAsync(new PutObjectRetentionRequest { BucketName = place.Bucket, Key = name, Retention = wanted }, cancellationToken);
        }
        catch (AmazonS3Exception refused) when (refused.StatusCode == HttpStatusCode.Forbidden)
        {
            // What would become shorter is refused, and good enough.
            if (await FindPresentAsync(name, cancellationToken) is not { RetainUntilDate: { } present } found || present.ToUniversalTime() < until.UtcDateTime
                || (wanted.Mode == ObjectLockRetentionMode.Compliance && found.Mode != ObjectLockRetentionMode.Compliance))
            {
                throw;
            }
        }
        return true;
    }

    public async Task<DateTimeOffset?> FindAsync(string name, CancellationToken cancellationToken) =>
        await FindPresentAsync(name, cancellationToken) is { RetainUntilDate: { } until } ? new DateTimeOffset(until.ToUniversalTime()) : null;

    private async Task<ObjectLockRetention?> FindPresentAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            return (await client.GetObjectRetentionAsync(new GetObjectRetentionRequest { BucketName = place.Bucket, Key = name }, cancellationToken)).Retention;
        }
        catch (AmazonS3Exception without) when (s_notRetained.Contains(without.ErrorCode))
        {
            return null;
        }
    }
}
