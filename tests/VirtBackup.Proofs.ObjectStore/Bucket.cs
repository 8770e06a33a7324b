using Amazon.S3;
using Amazon.S3.Model;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ObjectStore;

/// <summary>The bucket behind the product's back.</summary>
internal static class Bucket
{
    /// <summary>Deletes the longest object of a repository whose key holds these words.</summary>
    public static async Task DeleteOneAsync(string location, string words)
    {
        var endpoint = location[(location.IndexOf("endpoint=", StringComparison.Ordinal) + "endpoint=".Length)..].Split('&')[0];
        var prefix = location["s3://virtbackup/".Length..].Split('?')[0];
        using var client = new AmazonS3Client(new AmazonS3Config { ServiceURL = endpoint, ForcePathStyle = true, AuthenticationRegion = "us-east-1" });
        var page = await client.ListObjectsV2Async(new ListObjectsV2Request { BucketName = "virtbackup", Prefix = prefix + "/" });
        var victim = (page.S3Objects ?? []).Where(found => found.Key.Contains(words, StringComparison.Ordinal)).MaxBy(static found => found.Size)
            ?? throw new RefutedException("there is no object to lose");
        await client.DeleteObjectAsync("virtbackup", victim.Key);
    }
}
